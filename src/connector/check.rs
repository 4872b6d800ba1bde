//! What `rollcall check` says about a folder of connectors: every mistake, with file, line, column and a hint.
