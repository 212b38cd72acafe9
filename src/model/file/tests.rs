//! Files that read back, and files that are refused.
