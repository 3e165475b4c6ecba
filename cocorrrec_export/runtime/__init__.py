"""Run an exported file in the runtime that will run it in production."""
