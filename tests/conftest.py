import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Runs are repeatable bit for bit on one CPU thread."""
    torch.set_num_threads(1)


def pytest_configure(config):
    torch.set_num_threads(1)


CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]
)


@pytest.fixture(params=["cpu", CUDA])
def device(request):
    """Where a test runs: every test that asks for it runs again on CUDA, under the `gpu` marker."""
    return request.param
