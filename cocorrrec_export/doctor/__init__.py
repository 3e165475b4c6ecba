"""What this computer, and a phone, can make and run."""
