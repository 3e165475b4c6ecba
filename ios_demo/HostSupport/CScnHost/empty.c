// The library is built by mobile_host/Makefile; a target needs a source file.
