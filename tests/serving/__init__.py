"""Tests of the server and its client."""
