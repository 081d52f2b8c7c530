"""Real batch systems for tests: Debian's packages in a directory of their own, started on loopback, ended by pid."""
