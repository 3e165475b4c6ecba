"""Figures that the paper prints, to compare with ours. Source: CoCorrRec (IJCAI 2025)."""

METRICS = ("uauc", "ndcg@5", "ndcg@10", "ndcg@20", "hr@5", "hr@10", "hr@20")

TABLE_1: dict[str, dict[str, tuple[float, ...]]] = {
    "beauty": {
        "CoCorrRec": (0.7342, 0.3126, 0.3371, 0.3626, 0.4108, 0.4867, 0.5888),
        "CoCorrRec w/o GCN": (0.7331, 0.2987, 0.3256, 0.3517, 0.4019, 0.4858, 0.5874),
        "SASRec": (0.7314, 0.2605, 0.2920, 0.3180, 0.3929, 0.4852, 0.5876),
        "Mamba4Rec": (0.7220, 0.3051, 0.3300, 0.3543, 0.3871, 0.4639, 0.5603),
    },
}
"""By data set and row, in the order of :data:`METRICS`; the rows that we have the printed figures of."""

TABLE_2: dict[str, tuple[int, int, int]] = {
    "beauty": (4_255, 22_301, 96_053),
    "electronic": (27_224, 75_749, 599_276),
    "yelp": (18_046, 46_118, 1_358_413),
}
"""Users, items and interactions by data set."""

TABLE_4: dict[str, float] = {
    "CoCorrRec": 82.7,
    "CoCorrRec w/o GCN": 17.0,
    "DIN": 12.58,
    "GRU4Rec": 30.21,
    "SASRec": 38.27,
    "BERT4Rec": 100.66,
    "Mamba4Rec": 68.42,
}
"""Million FLOPs per token."""
