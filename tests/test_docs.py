"""The documentation leads where it says: pointers into docs/reference.md, links, the site, the notebook."""

import itertools
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
POINTER = "docs/reference.md, "
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "ARCHITECTURE.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))


def tracked(*suffixes: str) -> list[Path]:
    """Files of the checkout, this test aside."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no checkout")
    files = (ROOT / name for name in listed.stdout.split("\0") if name.endswith(suffixes))
    return [file for file in files if file.is_file() and file != Path(__file__).resolve()]


def joined(text: str) -> str:
    """The text in one line, without the marks of comments, so that a pointer may be broken anywhere."""
    return re.sub(r"\s*\n\s*(?:# ?)?", " ", text)


def headings(page: Path) -> list[str]:
    outside_code = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    return re.findall(r"(?m)^#{1,6} (.+?)\s*$", outside_code)


def anchors(page: Path) -> set[str]:
    return {re.sub(r"[^\w]+", "-", heading.lower()).strip("-") for heading in headings(page)}


def dangling(text: str, known: list[str]) -> list[str]:
    """Pointers of a file that name no heading: the first one, or one that is listed after it."""
    found, longest_first = [], "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    for place in re.finditer(re.escape(POINTER), text):
        rest = text[place.end() :]
        first = re.match(rf"(?:{longest_first})\b", rest)
        if not first:
            found.append(rest[:40])
            continue
        rest = rest[first.end() :]
        while listed := re.match(rf"(?:, | and )(?:(?P<known>{longest_first})\b|(?=[A-Z]\w+[,;.):]))", rest):
            if not listed["known"]:
                found.append(rest[:40])
                break
            rest = rest[listed.end() :]
    return found


def test_a_pointer_that_leads_nowhere_is_found():
    known = ["Loss", "Loss mask", "Delay pattern"]
    assert dangling("see docs/reference.md, Loss mask, Delay pattern and Loss.", known) == []
    assert dangling("docs/reference.md, Losses", known) == ["Losses"]
    assert dangling("docs/reference.md, Loss and Gain.", known) == [" and Gain."]


def test_every_pointer_names_a_heading_of_the_reference():
    known = headings(ROOT / "docs/reference.md")
    faults, count = [], 0
    for file in tracked(".py", ".gin", ".toml", ".sh", ".j2"):
        text = joined(file.read_text(encoding="utf-8"))
        count += text.count(POINTER)
        faults += [f"{file.relative_to(ROOT)}: {fault}" for fault in dangling(text, known)]
    assert not faults
    assert count > 100


def test_no_pointer_is_a_number():
    numbered = re.compile(r"(?i)reference,? sections? \d|\(sections? \d\.\d|BAGPIPER\.md")
    files = tracked(".py", ".gin", ".toml", ".sh", ".j2", ".md", ".ipynb")
    assert not [file for file in files if numbered.search(joined(file.read_text(encoding="utf-8")))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_resolves(page):
    text = re.sub(r"(?m)^ {4}.*$|`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        if path.startswith("api/"):
            continue  # made while the site is built, which checks it
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_the_hooks_run_the_linter_of_the_tests():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    bounds = re.search(r'"(ruff>=[^"]+)"', hooks)[1]
    assert f'"{bounds}"' in (ROOT / "setup.py").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_notebook_runs(monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
    notebook = nbformat.read(ROOT / "docs/first_steps.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= kinds  # pictures and players


GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def gin_text(first_line: str) -> str:
    """The indented gin file of the guide that begins with this line."""
    lines = GUIDE[GUIDE.index(first_line) :].splitlines()
    return "\n".join(
        itertools.takewhile(lambda line: not line or line.startswith("    "), ["    " + lines[0], *lines[1:]])
    )


def test_the_job_of_the_guide_runs(tmp_path, capsys):
    from bagpiper_jax.manifest import Clip, write_manifest

    write_manifest(tmp_path, [Clip("a", "train", "speech", caption="three short words")])
    job: dict = {"__name__": "count_words"}
    exec(compile(BLOCKS[0], "count_words.py", "exec"), job)
    job["main"]([f"--gin.CountConfig.corpus='{tmp_path}'"])
    assert capsys.readouterr().out == "3\n"


def test_the_stage_of_the_guide_divides_a_model():
    from bagpiper_jax.training.partition import Partition

    stages = eval("{" + BLOCKS[2] + "}", {"Partition": Partition})
    paths = ["decoder/embed_tokens", "decoder/layers/ffn/up", "tower/norm", "lm_head", "adaptor/kernel"]
    trainable, frozen = stages["tables"].split(dict.fromkeys(paths))
    assert sorted(frozen) == ["decoder/layers/ffn/up", "tower/norm"] and "lm_head" in trainable


def test_the_gin_files_of_the_guide_bind_what_exists(tmp_path, monkeypatch):
    from bagpiper_jax import configuration
    from bagpiper_jax.encoders.codec import TrainCodecConfig
    from bagpiper_jax.training import config as training
    from bagpiper_jax.training.partition import STAGES, Partition

    monkeypatch.setitem(STAGES, "tables", Partition(("decoder/layers/", "tower/")))
    (tmp_path / "stage.gin").write_text(textwrap.dedent(gin_text("# After a change of vocabulary")))
    run = ["gin/models/8b.gin", str(tmp_path / "stage.gin"), "gin/slices/v5p_128.gin"]
    built = configuration.build(training.TrainConfig, run, ["TrainConfig.output='runs/tables'"])
    assert built.stage == "tables" and built.steps == built.optimizer.decay_end == 2000
    (tmp_path / "codec.gin").write_text(
        textwrap.dedent(gin_text("# The nano codec with twice")).split("bagpiper")[0]
    )
    assert configuration.build(TrainCodecConfig, [str(tmp_path / "codec.gin")]).codec.codebook_size == 512
