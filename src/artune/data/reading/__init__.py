"""Reading images from outside in bounded time and memory, whatever the files hold.

- images: decoding a JPEG, PNG or WebP file
- tars: the members of a tar archive and of the archives in it
- shards: the rows of parquet shards
- parquet_pages: the claims of a shard's pages, before they are read
- parquet_footer: where these pages lie
- thrift: the headers in a parquet file
- idx: the array of an IDX file
- packed: assets that lie compressed, in a package's folder or at their address
"""
