"""Write weights of the torch port as a TensorFlow graph with the node names of ``classify_image_graph_def.pb``.

Run by the interpreter that has TensorFlow: ``python inception_graph.py weights.npz graph.pb``.
"""

import sys

import numpy as np
import tensorflow.compat.v1 as tf

# Branches of each kind of block. A branch is a chain of steps: a convolution with its name in the port, two side by
# side ("a+b"), or a pool ("avg", "max"; "{}" depends on the block). "/2" means stride 2 without padding. BLOCKS lists
# the port's blocks in the order of their numbers in TensorFlow's graph.
A = ["branch1x1", "branch5x5_1 branch5x5_2", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3", "avg branch_pool"]
B = ["branch3x3/2", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3/2", "max/2"]
C = ["branch1x1", "branch7x7_1 branch7x7_2 branch7x7_3"]
C += [" ".join(f"branch7x7dbl_{number}" for number in range(1, 6)), "avg branch_pool"]
D = ["branch3x3_1 branch3x3_2/2", "branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4/2", "max/2"]
E = ["branch1x1", "branch3x3_1 branch3x3_2a+branch3x3_2b"]
E += ["branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a+branch3x3dbl_3b", "{} branch_pool"]
BLOCKS = {"5b": A, "5c": A, "5d": A, "6a": B, "6b": C, "6c": C, "6d": C, "6e": C, "7a": D, "7b": E, "7c": E}


def convolution(x, weights, name, stride, padding, output=None):
    """Convolution, batch norm and ReLU; ``output`` is the name of the ReLU's node."""
    kernel = weights[f"{name}.conv.weight"].transpose(2, 3, 1, 0)
    scale = weights[f"{name}.bn.weight"] / np.sqrt(weights[f"{name}.bn.running_var"] + 1e-3)
    shift = weights[f"{name}.bn.bias"] - weights[f"{name}.bn.running_mean"] * scale
    return tf.nn.relu(tf.nn.conv2d(x, kernel, stride, padding) * scale + shift, name=output)


def pool(x, kind, stride, padding):
    call = tf.nn.avg_pool if kind == "avg" else tf.nn.max_pool
    return call(x, 3, stride, padding)


def block(x, weights, name, branches, number):
    outputs = []
    for branch in branches:
        y = x
        for step in branch.format("max" if name == "7c" else "avg").split():
            step, _, halves = step.partition("/")
            stride, padding = (2, "VALID") if halves else (1, "SAME")
            if step in ("avg", "max"):
                y = pool(y, step, stride, padding)
                continue
            output = f"mixed_{number}/conv" if step == "branch1x1" else None
            sides = step.split("+")
            found = [convolution(y, weights, f"Mixed_{name}.{side}", stride, padding, output) for side in sides]
            y = tf.concat(found, 3) if len(found) > 1 else found[0]
        outputs.append(y)
    return tf.concat(outputs, 3)


def build(weights):
    image = tf.placeholder(tf.float32, [None, None, 3], name="Cast")
    x = tf.image.resize_bilinear(tf.expand_dims(image, 0, name="ExpandDims"), [299, 299], name="ResizeBilinear")
    x = (x - 128) * 0.0078125
    x = convolution(x, weights, "Conv2d_1a_3x3", 2, "VALID")
    x = convolution(x, weights, "Conv2d_2a_3x3", 1, "VALID")
    x = convolution(x, weights, "Conv2d_2b_3x3", 1, "SAME")
    x = pool(x, "max", 2, "VALID")
    x = convolution(x, weights, "Conv2d_3b_1x1", 1, "VALID")
    x = convolution(x, weights, "Conv2d_4a_3x3", 1, "VALID")
    x = pool(x, "max", 2, "VALID")
    for number, (name, branches) in enumerate(BLOCKS.items()):
        x = block(x, weights, name, branches, number)
    x = tf.nn.avg_pool(x, 8, 1, "VALID", name="pool_3")
    flat = tf.reshape(x, [1, 2048], name="pool_3/_reshape")  # the batch has one image, as in the released graph
    logits = tf.matmul(flat, weights["fc.weight"].T, name="softmax/logits/MatMul") + weights["fc.bias"]
    tf.nn.softmax(logits, name="softmax")


if __name__ == "__main__":
    with tf.Graph().as_default() as graph, np.load(sys.argv[1]) as found:
        build({name: found[name] for name in found.files})
    with open(sys.argv[2], "wb") as handle:
        handle.write(graph.as_graph_def().SerializeToString())
