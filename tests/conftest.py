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


@pytest.fixture(scope="module")
def address():
    """Of a dashboard of its own, for the tests of one file that drive a browser."""
    from browsing import FREE_AFTER, until

    from nllab.bench.live import fetch, serving

    with serving(NLLAB_FREE_AFTER=str(FREE_AFTER)) as found:
        until(lambda: fetch(f"{found}/stat"))
        yield found


@pytest.fixture(scope="module")
def browser():
    from nllab.bench.live import CHROMIUM_OPTIONS, chromium_path

    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium_path(), args=list(CHROMIUM_OPTIONS))
        yield found
        found.close()


@pytest.fixture
def visit(browser, address):
    """Opens a page of its own browser profile; in the end nothing may have been said on the console or asked of another
    server."""
    from browsing import DESK, PATIENCE, drawn

    contexts, said, abroad = [], [], []

    def open_page(query="", viewport=DESK, figures=True, **settings):
        contexts.append(browser.new_context(viewport=viewport, **settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on(
            "response", lambda answer: said.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
        )
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.startswith((address, "data:", "blob:")) else abroad.append(request.url),
        )
        page.goto(f"{address}/{query}")
        return drawn(page) if figures else page

    yield open_page
    for context in contexts:
        context.close()
    assert not said and not abroad
