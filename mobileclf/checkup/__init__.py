"""What `doctor` looks at, one module a part. Nothing here loads more than the standard library
before it is asked, so that it answers also where packages are missing or broken."""
