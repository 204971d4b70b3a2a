//! Envelope encryption of critical columns and files: sealed values bound to their place, rotated online.
