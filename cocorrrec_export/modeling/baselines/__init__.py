"""The models that the paper compares with, in the form that its released implementation trained."""
