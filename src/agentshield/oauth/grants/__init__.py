"""The grants, one file each: from a request and its client to what may be issued."""
