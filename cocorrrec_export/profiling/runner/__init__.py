"""The C++ programs that run an exported file, and the packages they travel in."""
