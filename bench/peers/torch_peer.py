"""One of the two sides of bench/peers/compare.py: PyTorch. Reads "run N" lines, does N steps, answers with seconds.

Both sides use the same model, batch, dtype, optimizer (AdamW) and random data that stay in place; neither loads data.
"""
import argparse
import sys
import time

START = time.time()


def build(work, torch):
    nn = torch.nn

    def block(cin, cout, stride):
        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
                self.bn1 = nn.BatchNorm2d(cout)
                self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
                self.bn2 = nn.BatchNorm2d(cout)
                self.short = None
                if stride != 1 or cin != cout:
                    self.short = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

            def forward(self, x):
                y = torch.relu(self.bn1(self.conv1(x)))
                y = self.bn2(self.conv2(y))
                return torch.relu(y + (x if self.short is None else self.short(x)))

        return Block()

    if work == "mlp":
        return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)), (784,), 10
    if work == "cnn":
        return nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1),
                             nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(),
                             nn.Linear(128, 10)), (1, 28, 28), 10
    if work == "resnet20":
        layers = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        width = 16
        for stage, out in enumerate((16, 32, 64)):
            for i in range(3):
                layers.append(block(width, out, 2 if stage > 0 and i == 0 else 1))
                width = out
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
        return nn.Sequential(*layers), (3, 32, 32), 10
    if work == "lstm":
        class Last(nn.Module):
            def __init__(self):
                super().__init__()
                self.lstm = nn.LSTM(28, 128, batch_first=True)
                self.head = nn.Linear(128, 10)

            def forward(self, x):
                return self.head(self.lstm(x)[0][:, -1])

        return Last(), (64, 28), 10
    raise SystemExit(f"unknown work {work}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--mode", choices=["train", "infer"], required=True)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()

    import torch
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model, shape, classes = build(args.work, torch)
    model = model.to(args.device)
    kind = torch.device(args.device).type
    x = torch.randn(args.batch, *shape, device=args.device)
    y = torch.randint(0, classes, (args.batch,), device=args.device)
    if len(shape) == 3:  # PyTorch is faster so
        model = model.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    loss_function = torch.nn.CrossEntropyLoss()
    # On a GPU: with CUDA graphs, as Trivet.
    run = torch.compile(model, mode="reduce-overhead" if kind == "cuda" else None) if args.compile else model
    low = args.dtype == "bf16"

    if args.mode == "train":
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

        def step():
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(kind, torch.bfloat16, enabled=low):
                loss = loss_function(run(x), y)
            loss.backward()
            optimizer.step()
            return loss.item()
    else:
        model.eval()

        def step():
            with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=low):
                return run(x).float().sum().item()

    step()
    print(f"ready {time.time() - START:.4f}", flush=True)
    for line in sys.stdin:
        count = int(line.split()[1])
        began = time.perf_counter()
        for _ in range(count):
            step()
        print(f"{time.perf_counter() - began:.6f}", flush=True)


if __name__ == "__main__":
    main()
