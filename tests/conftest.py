import pytest

# Torch is imported in fixtures: pytest-xdist's own process, which runs no test, then starts its workers at once.


@pytest.fixture(autouse=True)
def one_thread():
    """Runs are repeatable bit for bit on one CPU thread."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """Where a test runs: every test that asks for it runs again on CUDA, under the `gpu` marker."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    return request.param
