//! Emulators of key-management services, from the Python environment that `./dev test` makes.
