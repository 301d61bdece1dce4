"""Load on real server processes: who asks what and when, what comes back, and what it is compared with."""
