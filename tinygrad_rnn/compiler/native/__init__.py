"""Programs as C: written, compiled by the C compiler that is there, and called."""
