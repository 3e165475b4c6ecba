"""Take the CoCorrRec recommender from training to phones and cloud, and prove that it still ranks the same."""

__version__ = "0.1.0"
