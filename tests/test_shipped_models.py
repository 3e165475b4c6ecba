"""The shipped models, exported: as small as promised, and still ranking the same."""

from pathlib import Path

import pytest

from cocorrrec_export.export import pipeline
from cocorrrec_export.export.recipes import choose_recipe
from tests.conftest import SHARED, need


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cocorrrec-movielens", "cocorrrec-beauty"])
def test_int8_is_small_and_ranks_the_same(name: str, tmp_path: Path) -> None:
    data = need(SHARED / "data" / "beauty.inter.csv.gz") if name.endswith("beauty") else None
    source = pipeline.open_source(name, data)
    sizes, rankings = {}, {}
    for precision in ("fp32", "int8"):
        artifact = pipeline.export(source, choose_recipe("scn", "executorch", precision=precision), tmp_path)
        sizes[precision] = artifact.bytes
        rankings[precision] = artifact.manifest["parity"]["ranking"]
    assert sizes["int8"] <= 0.30 * sizes["fp32"]
    for way in ("metrics", "metrics_corrected"):
        for pair in rankings["fp32"][way].values():
            assert round(pair["eager"], 4) == round(pair["artefact"], 4)
        ndcg = rankings["int8"][way]["ndcg@10"]
        assert abs(ndcg["artefact"] - ndcg["eager"]) <= 0.005 * ndcg["eager"]
    gcn = pipeline.export(source, choose_recipe("gcn", "onnx"), tmp_path)
    assert gcn.manifest["parity"]["tensors"]["max_rel"] <= 1e-4
