"""Networks of the cloud that answers with a vector."""

import copy

import pytest
import torch

from cocorrrec_export.modeling.vector import GRUReader, Recall

D, HEADS, PHONE, CLOUD = 8, 2, 4, 11


def recall() -> Recall:
    torch.manual_seed(0)
    return Recall(hidden_size=D, num_heads=HEADS, phone_length=PHONE, length=CLOUD, dropout=0.0)


@torch.no_grad()
def test_recall_attends_by_hand_to_what_is_older_than_the_phones_clicks() -> None:
    module, rows, states = recall(), torch.randn(1, CLOUD, D), torch.randn(1, CLOUD, 2 * D)
    found = module(states, rows, torch.arange(CLOUD)[None])[0]
    keys, values, queries = (
        module.key(module.norm(rows))[0],
        module.value(module.norm(rows))[0],
        module.query(states)[0],
    )
    for now in range(CLOUD):
        older = now + 1 - PHONE  # clicks before the newest four
        if older <= 0:
            assert (found[now] == 0).all()
            continue
        heads = []
        for head, part in enumerate(torch.arange(D).split(D // HEADS)):
            distance = torch.tensor([now - PHONE - i for i in range(older)])
            logits = keys[:older, part] @ queries[now, part] / 2 + module.distance(distance)[:, head]
            heads.append(logits.softmax(0) @ values[:older, part])
        torch.testing.assert_close(found[now], module.output(torch.cat(heads)))


@pytest.mark.parametrize("clicks", [1, PHONE, PHONE + 1, CLOUD])
@torch.no_grad()
def test_a_reader_that_recalls_is_a_gru_where_there_is_nothing_older(clicks: int) -> None:
    reader = GRUReader(hidden_size=D, dropout=0.0, recall=recall())
    plain = copy.deepcopy(reader)
    plain.recall = None
    ids = (torch.arange(1, CLOUD + 1) * (torch.arange(CLOUD) < clicks))[None]
    rows, last = torch.randn(1, CLOUD, D) * (ids != 0)[..., None], torch.tensor([clicks - 1])
    vector = reader(ids, rows, last)
    torch.testing.assert_close(vector, reader(ids, rows)[:, clicks - 1])
    assert vector.allclose(plain(ids, rows, last)) is (clicks <= PHONE)


def test_what_is_older_is_learned_from() -> None:
    reader = GRUReader(hidden_size=D, dropout=0.0, recall=recall())
    for clicks in (PHONE, PHONE + 1):
        reader.zero_grad()
        reader(torch.ones(1, clicks, dtype=torch.int64), torch.randn(1, clicks, D)).square().sum().backward()
        grads = [x.grad for x in reader.recall.parameters()]  # type: ignore[union-attr]
        assert any(x is not None and x.abs().sum() > 0 for x in grads) is (clicks > PHONE)
