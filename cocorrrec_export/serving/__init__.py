"""The cloud's half behind HTTP, and the phone's side of the exchange."""
