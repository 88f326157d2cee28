"""Images and files from outside.

- digits: the digits of the mnist scale
- imagenet: ImageNet as folders, tar archives or parquet shards
- crops: decoding images, ADM's centre crop, LlamaGen's crops, batches of them
- npz_images: images of an npz file, a batch at a time
- prompts: class names and prompts
- pixels: uint8 images and floats, resizing, normalisation
- assets: finding, checking and pinning files from outside
- download: fetching them
"""
