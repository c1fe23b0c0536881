import io
import shutil
from types import SimpleNamespace

import pytest
from PIL import Image

from convae_program import ODD_NAMES, ONE_CORE, make_identity, picture, save_pictures
from report_page import CHROMIUM_FLAGS

# Odd and even, wide and high: three sizes that no run of convolutions can confuse.
SIZES = [(16, 16), (17, 20), (24, 19)]


@pytest.fixture
def convae(program, tmp_path):
    """convae("train", "--data", …) in the test's own folder; gives code, stdout, stderr."""
    return lambda *args: program.call(*args, cwd=tmp_path)


@pytest.fixture
def done(program, tmp_path):
    """The same, for calls that have to succeed."""
    return lambda *args: program.run(*args, cwd=tmp_path)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Colour PNGs of three sizes, enough for the split to have both sides."""
    return save_pictures(tmp_path_factory.mktemp("data") / "photos", SIZES * 5)


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    """Colour PNGs of one size."""
    return save_pictures(tmp_path_factory.mktemp("data") / "squares", [(17, 20)] * 5)


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """Forty colour PNGs of two sizes."""
    return save_pictures(tmp_path_factory.mktemp("data") / "many", [(24, 21), (17, 20)] * 20)


@pytest.fixture(scope="session")
def odd(tmp_path_factory):
    """Odd names in a tree, each with a size of its own down to a single pixel."""
    folder = tmp_path_factory.mktemp("odd") / "in"
    sizes = [(13 + index, 29 - index) for index in range(len(ODD_NAMES) - 3)]
    sizes += [(1, 1), (10, 40), (2, 31)]
    for index, (name, (height, width)) in enumerate(zip(ODD_NAMES, sizes)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Through memory: Pillow looks at the name's ending.
        buffer = io.BytesIO()
        Image.fromarray(picture(height, width, seed=index)).save(buffer, "PNG")
        path.write_bytes(buffer.getvalue())
    return folder


@pytest.fixture(scope="session")
def trained(program, photos, tmp_path_factory):
    """A run of five epochs with validation, and what was printed."""
    folder = tmp_path_factory.mktemp("trained")
    result = program.run("train", "--data", photos, "--levels", "4,8", "--epochs", 5,
                         "--batch-size", 4, "--val-split", 0.3, *ONE_CORE, cwd=folder)
    return SimpleNamespace(run=folder / "runs" / "photos", result=result, cwd=folder)


@pytest.fixture(scope="session")
def dense(program, photos, tmp_path_factory):
    """A run with a dense latent of six numbers at 16x20."""
    folder = tmp_path_factory.mktemp("dense")
    program.run("train", "--data", photos, "--levels", "4,8", "--latent", 6, "--size", "16x20",
                "--epochs", 1, "--val-split", 0, "--quiet", *ONE_CORE, cwd=folder)
    return folder / "runs" / "photos"


@pytest.fixture(scope="session")
def identity(program, tmp_path_factory):
    """A colour model that gives back what it is given."""
    return make_identity(program, tmp_path_factory.mktemp("identity") / "colour", 3)


@pytest.fixture(scope="session")
def grey_identity(program, tmp_path_factory):
    return make_identity(program, tmp_path_factory.mktemp("identity") / "grey", 1)


@pytest.fixture(scope="session")
def chromium():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("no browser tests: the package playwright is missing")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no browser tests: there is no chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def look(chromium):
    """Opens a report; at the end of the test the page must have complained of nothing and asked
    for nothing."""
    contexts, wrong = [], []

    def open_page(report, width=1280, height=900, scheme="light"):
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme,
                                       reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (wrong.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith(("data:", "file:"))
                or wrong.append(f"request: {request.url}"))
        page.goto(report.as_uri())
        return page
    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
