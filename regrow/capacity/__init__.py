"""Where it goes: trends out of kept history, and when a disk or the memory will be full."""
