"""What travels: the .proto files, the code generated from them, and the table of methods. Nothing here decides."""
