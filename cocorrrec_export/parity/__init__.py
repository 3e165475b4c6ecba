"""Does an exported file compute, and rank, what the float32 model does?"""
