#!/usr/bin/env python3
"""Writes mlp.json, cnn.json, resnet.json and lstm.json: the losses of ten training steps, computed by PyTorch as an independent oracle.

Run once, by hand, whenever the models below change; neither the build nor the tests need Python:

    python3 -m venv venv && venv/bin/pip install torch numpy && venv/bin/python tests/golden/make_golden.py

Images, labels and initial weights come from integer formulas whose results are multiples of a power of two, so that
golden.h repeats them exactly. Layouts are Trivet's: images (B,H,W,C), dense weights (out,in), convolution weights
(out,kh,kw,in). Each run is done in float32 on one thread and in float64; "spread" is the largest relative difference
between the two, that is, what rounding alone does to these losses.
"""

import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

STEPS, BATCH, SIDE, CLASSES = 10, 16, 12, 10

RESNET_WIDTH, LSTM_UNITS = 4, 8


def resnet_parameters():
    """Depth 8: a stem, then one block in each of three stages; batch norm after each convolution."""
    shapes, number, width = {}, 0, 1

    def conv(out, kernel, inputs):
        nonlocal number
        number += 1
        shapes[f"conv{number}.weight"] = (out, kernel, kernel, inputs)
        shapes[f"batch_norm{number}.weight"] = (out,)
        shapes[f"batch_norm{number}.bias"] = (out,)

    conv(RESNET_WIDTH, 3, 1)
    width = RESNET_WIDTH
    for out in (RESNET_WIDTH, 2 * RESNET_WIDTH, 4 * RESNET_WIDTH):
        if out != width:
            conv(out, 1, width)  # the shortcut comes first
        conv(out, 3, width)
        conv(out, 3, out)
        width = out
    shapes["dense1.weight"] = (CLASSES, width)
    shapes["dense1.bias"] = (CLASSES,)
    return shapes


MODELS = {
    # name: parameters in the order in which build_model creates them
    "mlp": {
        "dense1.weight": (32, SIDE * SIDE),
        "dense1.bias": (32,),
        "dense2.weight": (CLASSES, 32),
        "dense2.bias": (CLASSES,),
    },
    "cnn": {
        "conv1.weight": (4, 3, 3, 1),
        "conv1.bias": (4,),
        "conv2.weight": (8, 3, 3, 4),
        "conv2.bias": (8,),
        "dense1.weight": (16, 3 * 3 * 8),
        "dense1.bias": (16,),
        "dense2.weight": (CLASSES, 16),
        "dense2.bias": (CLASSES,),
    },
    "resnet": resnet_parameters(),
    "lstm": {
        "lstm1.weight": (1, 4 * LSTM_UNITS, SIDE),
        "lstm1.recurrent": (1, 4 * LSTM_UNITS, LSTM_UNITS),
        "lstm1.bias": (4 * LSTM_UNITS,),
        "dense1.weight": (CLASSES, LSTM_UNITS),
        "dense1.bias": (CLASSES,),
    },
}
SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4}
ADAMW = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01}


def noise(seed, count):
    """Multiples of 1/128 in [-1, 1) from a linear congruential generator (constants of Numerical Recipes, 7.1)."""
    state = (seed * 2654435761) % 2**32
    values = []
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append((((state >> 16) & 255) - 128) / 128)
    return np.array(values)


def labels(step):
    return np.array([((step * BATCH + i) * 7) % CLASSES for i in range(BATCH)])


def images(step):
    """Half noise, plus 3/4 in three rows from the label's on: something that ten steps can learn."""
    data = noise(1000 + step, BATCH * SIDE * SIDE).reshape(BATCH, SIDE, SIDE, 1) / 2
    row = np.arange(SIDE)[None, :] - labels(step)[:, None]  # (B,H): rows below the first bright one
    return data + np.where((row >= 0) & (row < 3), 0.75, 0.0)[:, :, None, None]


def scale(shape):
    """A power of two near the width of He et al.'s uniform range; small for biases."""
    if len(shape) == 1:
        return 1 / 8
    return 1 / 2 if np.prod(shape[1:]) < 64 else 1 / 4


def initial(name):
    shapes = MODELS[name]
    return {p: noise(100 + i, int(np.prod(s))).reshape(s) * scale(s) for i, (p, s) in enumerate(shapes.items())}


def resnet_forward(p, x):
    number = 0

    def conv_norm(x, stride):
        nonlocal number
        number += 1
        w = p[f"conv{number}.weight"].permute(0, 3, 1, 2)
        y = F.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2)
        return F.batch_norm(y, None, None, p[f"batch_norm{number}.weight"], p[f"batch_norm{number}.bias"], training=True)

    x = F.relu(conv_norm(x.permute(0, 3, 1, 2), 1))
    for stage in range(3):
        stride = 1 if stage == 0 else 2
        shortcut = x if stage == 0 else conv_norm(x, stride)
        y = F.relu(conv_norm(x, stride))
        x = F.relu(conv_norm(y, 1) + shortcut)
    return F.linear(x.mean((2, 3)), p["dense1.weight"], p["dense1.bias"])


def lstm_forward(p, x):
    """Gates in ONNX's order: input, output, forget, cell. The forget gate has a bias of 1 beside its parameter."""
    w, r, b = p["lstm1.weight"][0], p["lstm1.recurrent"][0], p["lstm1.bias"]
    steps = x.flatten(2)
    h = torch.zeros(x.shape[0], LSTM_UNITS, dtype=x.dtype)
    c = torch.zeros_like(h)
    for t in range(steps.shape[1]):
        i, o, f, g = (steps[:, t] @ w.T + h @ r.T + b).chunk(4, 1)
        c = torch.sigmoid(f + 1) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
    return F.linear(h, p["dense1.weight"], p["dense1.bias"])


def forward(name, p, x):
    """x is (B,H,W,C); activations between convolutions are (B,C,H,W), as PyTorch wants them."""
    if name == "resnet":
        return resnet_forward(p, x)
    if name == "lstm":
        return lstm_forward(p, x)
    if name == "cnn":
        x = x.permute(0, 3, 1, 2)
        for layer in ("conv1", "conv2"):
            w = p[layer + ".weight"].permute(0, 3, 1, 2)
            x = F.max_pool2d(F.relu(F.conv2d(x, w, p[layer + ".bias"], padding=1)), 2)
        x = x.permute(0, 2, 3, 1)
    x = x.flatten(1)
    x = F.relu(F.linear(x, p["dense1.weight"], p["dense1.bias"]))
    return F.linear(x, p["dense2.weight"], p["dense2.bias"])


def optimizer_for(kind, p):
    """Weight decay acts on weights only, not on biases and the scales of norms."""
    groups = [
        {"params": [t for t in p.values() if t.ndim > 1]},
        {"params": [t for t in p.values() if t.ndim == 1], "weight_decay": 0.0},
    ]
    if kind == "sgd":
        return torch.optim.SGD(groups, **SGD)
    betas = (ADAMW["beta1"], ADAMW["beta2"])
    return torch.optim.AdamW(
        groups, lr=ADAMW["lr"], betas=betas, eps=ADAMW["epsilon"], weight_decay=ADAMW["weight_decay"]
    )


def train(name, kind, dtype):
    p = {n: torch.tensor(v, dtype=dtype, requires_grad=True) for n, v in initial(name).items()}
    optimizer = optimizer_for(kind, p)
    losses = []
    for step in range(STEPS):
        logits = forward(name, p, torch.tensor(images(step), dtype=dtype))
        loss = F.cross_entropy(logits, torch.tensor(labels(step)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    folder = pathlib.Path(__file__).parent
    for name, shapes in MODELS.items():
        result = {"oracle": "PyTorch " + torch.__version__, "parameters": {n: list(s) for n, s in shapes.items()}}
        for kind, settings in (("sgd", SGD), ("adamw", ADAMW)):
            single, double = train(name, kind, torch.float32), train(name, kind, torch.float64)
            spread = max(abs(a - b) / abs(b) for a, b in zip(single, double))
            result[kind] = {"settings": settings, "spread": spread, "float32": single, "float64": double}
            print(f"{name} {kind}: loss {double[0]:.6f} -> {double[-1]:.6f}, spread {spread:.1e}")
        (folder / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
