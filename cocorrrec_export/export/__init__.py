"""From a trained model to files that phones and the cloud run."""
