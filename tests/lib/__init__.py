"""What the tests around the binary share: processes, keys, nodes, a strict HTTP/1.1 reader."""
