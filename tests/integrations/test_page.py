"""docs/integrations.md shows what its code prints, with the real libraries."""

import os
from pathlib import Path

import pytest
from test_documents import ROOT, comparable
from test_guides import refreshed

from benchmarks.architectures.compat import ensure_operators

ensure_operators()  # Lightning and Transformers import torchvision where it is installed

PAGE = ROOT / "docs" / "integrations.md"


@pytest.mark.filterwarnings("ignore")  # the libraries' own, in runs that are made for reading
def test_the_page_shows_what_its_code_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    shown = PAGE.read_text(encoding="utf-8")
    real = refreshed(shown, tmp_path)
    if os.environ.get("GRADSCOPE_UPDATE") == "1" and comparable(shown) != comparable(real):
        PAGE.write_text(real, encoding="utf-8")
        return
    assert comparable(shown) == comparable(real), "write the outputs anew: GRADSCOPE_UPDATE=1 make test"
    assert (tmp_path / "runs" / "a" / "scalars.csv").exists()
    assert list(tmp_path.glob("lightning_logs/*/gradscope/events*"))
    assert list(tmp_path.glob("**/*.wandb"))
    assert list(tmp_path.glob("store/**/findings.txt"))
    import wandb  # noqa: PLC0415  it looks at the environment

    wandb.teardown()
