"""The cloud model behind HTTP, and the phone's side of the exchange."""
