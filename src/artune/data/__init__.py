"""Images and files from outside.

- embedded: data sets that lie in data.npz, with their splits
- sources: where the images of embedded data sets come from
- imagenet: ImageNet as folders, tar archives or parquet shards
- reading: decoding images, the members of tars, the rows of parquet shards, IDX files, files that lie compressed
- classes: the class of every image, from names or from labels
- crops: ADM's centre crop, LlamaGen's crops, batches of crops
- npz_images: reading the images of an npz file in batches
- prompts: class names and prompts
- pixels: uint8 images and floats, resizing, normalisation
- assets: finding, fetching, checking and pinning files from outside
- pins: the records of their digests
- stamps: comparing such a file, whenever it is used, with what was checked
- digests: sizes, times and digests of files and folders
- formats: whether a file is what its name claims
- download: fetching a file over HTTPS
"""
