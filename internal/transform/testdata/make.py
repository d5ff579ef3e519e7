#!/usr/bin/env python3
"""Writes the reference outputs of this folder. Needs Debian's python3-torchvision (0.14) with python3-pil, and libjpeg-turbo-progs.

    sizes.json           what torchvision makes of image sizes: [min_size, max_size, w, h, scaled w, scaled h, batch w, batch h]
    resize.json          a formula image through GeneralizedRCNNTransform: sums and samples of the result
    jpeg/*.jpg, *.png    formula pictures in every kind of JPEG, and the pixels that Pillow (libjpeg-turbo) decodes, before
                         any turning (turned1 to 8 share one, *_again.jpg have that of their twin)
"""
import io, json, math, os, random, subprocess
import numpy as np, torch
from PIL import Image, features
from torchvision.models.detection.transform import GeneralizedRCNNTransform

here = os.path.dirname(os.path.abspath(__file__))


def dump(name, value):
    with open(os.path.join(here, name), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(v) for v in value) + "\n]\n")


def transform(lo, hi, multiple=32):
    return GeneralizedRCNNTransform(lo, hi, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], size_divisible=multiple).eval()


def sizes():
    """Sizes where the float types matter: short sides equal or near to min_size, and all that differ from plain float64."""
    random.seed(1)
    rows, odd = [], 0
    for lo, hi in [(800, 1333), (600, 1000), (320, 533), (120, 200), (600, 1066)]:
        t = transform(lo, hi)
        for k in range(4000):
            w, h = random.randint(16, 2500), random.randint(16, 2500)
            if k % 3 == 0:
                h = lo
            if k < 6:
                w, h = [(640, 480), (480, 640), (1280, 720), (1920, 1080), (lo, hi), (hi, lo)][k]
            scale = torch.min(float(lo) / torch.tensor(float(min(w, h))), float(hi) / torch.tensor(float(max(w, h)))).item()
            sw, sh = math.floor(w * scale), math.floor(h * scale)
            exact = min(lo / min(w, h), hi / max(w, h))
            differs = (math.floor(w * exact), math.floor(h * exact)) != (sw, sh)
            if k >= 30 and not (differs and odd < 300):
                continue
            odd += differs
            # A stride-0 tensor: the shape counts, not the pixels.
            out = t.resize(torch.zeros(1, 1, 1).expand(3, h, w), None)[0].shape if k < 30 else (3, sh, sw)
            assert out[1:] == (sh, sw)
            rows.append([lo, hi, w, h, sw, sh, -(-sw // 32) * 32, -(-sh // 32) * 32])
    dump("sizes.json", rows)


def picture(h, w):
    """uint8 [h,w,3] by an integer formula, the same in Go: coloured waves with hard edges."""
    y, x = np.mgrid[0:h, 0:w]
    c = np.stack([x * 7 + y * 3 + (x * y) % 61, 255 - x * 2 + y * 5, (x // 8 + y // 8) % 2 * 160 + x], -1)
    return (c % 256).astype(np.uint8)


def resize():
    out = []
    for lo, hi, w, h in [(120, 200, 143, 97), (64, 100, 31, 57), (50, 400, 333, 250), (40, 60, 299, 100), (96, 96, 96, 96)]:
        x = torch.from_numpy(picture(h, w)).permute(2, 0, 1).contiguous().float().div(255)  # as ToTensor
        y = transform(lo, hi)([x])[0].tensors[0].double()
        flat = y.flatten()
        at = [(i * 7919) % flat.numel() for i in range(200)]
        out.append({"min": lo, "max": hi, "w": w, "h": h, "shape": list(y.shape), "sum": [c.sum().item() for c in y],
                    "at": at, "values": [round(flat[i].item(), 6) for i in at]})
    dump("resize.json", out)


def smooth(h, w):
    """What photos are like: gradients, a few coloured edges, a little noise."""
    rng = np.random.RandomState(h * 1000 + w)
    y, x = np.mgrid[0:h, 0:w] / 24.0
    c = np.stack([np.sin(x + 0.3 * y), np.cos(y - 0.5 * x), np.sin(0.7 * (x + y))], -1) * 100 + 128
    c[h // 4 : h // 2, w // 3 : w // 2] = (230, 30, 20)
    c[h // 2 :, w // 5 : w // 4] = (10, 40, 220)
    return np.clip(c + rng.randn(h, w, 3) * 3, 0, 255).astype(np.uint8)


def flat(h, w, n):
    """One colour for each n x n pixels."""
    rng = np.random.RandomState(h * 1000 + w)
    c = rng.randint(0, 256, (-(-h // n), -(-w // n), 3))
    return np.kron(c, np.ones((n, n, 1)))[:h, :w].astype(np.uint8)


def hard(h, w):
    """What a DCT likes least, so that coefficients are extreme: black and white by chance, and pixel-wide stripes."""
    rng = np.random.RandomState(h * 1000 + w)
    c = rng.randint(0, 2, (h, w, 3)) * 255
    y, x = np.mgrid[0 : h // 2, 0:w]
    c[: h // 2] = np.stack([(x + y) % 2, x % 2, y % 2], -1) * 255
    return c.astype(np.uint8)


def jpegs():
    print("libjpeg-turbo", features.version("libjpeg_turbo"))
    folder = os.path.join(here, "jpeg")
    os.makedirs(folder, exist_ok=True)

    def save(name, image, **kw):
        b = io.BytesIO()
        image.save(b, "JPEG", quality=92, **kw)
        put(name, b.getvalue())

    def put(name, data):
        with open(os.path.join(folder, name + ".jpg"), "wb") as f:
            f.write(data)
        golden = os.path.join(folder, ("turned" if name.startswith("turned") else name).replace("_again", "") + ".png")
        image = Image.open(io.BytesIO(data)).convert("RGB")
        if name.endswith("_again"):
            assert image.tobytes() == Image.open(golden).tobytes()
        else:
            image.save(golden, optimize=True)

    def cjpeg(name, image, *args):
        pnm = io.BytesIO()
        image.save(pnm, "PPM")
        put(name, subprocess.run(["cjpeg", *args], input=pnm.getvalue(), stdout=subprocess.PIPE, check=True).stdout)

    for h, w in [(64, 80), (61, 77)]:
        p = Image.fromarray(smooth(h, w))
        for s, name in enumerate(["444", "422", "420"]):
            if name != "420" and h == 64:
                continue
            save(f"{name}_{w}x{h}", p, subsampling=s)
    for factors in ["1x1", "2x1", "2x2", "1x2", "4x1", "4x2"]:
        for w, h in [(93, 70), (96, 128)]:
            cjpeg(f"flat{factors}_{w}x{h}", Image.fromarray(flat(h, w, 32 if factors[0] == "4" else 16)), "-quality", "60", "-sample", factors)
    for name, factors in [("440", "1x2"), ("411", "4x1"), ("410", "4x2")]:  # Pillow cannot write these
        for w, h in [(61, 43), (48, 32)]:
            cjpeg(f"{name}_{w}x{h}", Image.fromarray(smooth(h, w)), "-quality", "92", "-sample", factors)
    p = Image.fromarray(smooth(35, 49))
    cjpeg("restart_49x35", p, "-quality", "92", "-restart", "1")
    cjpeg("rgb_49x35", p, "-quality", "92", "-rgb")
    for q in [1, 10, 25, 50, 75, 90, 100]:  # 1 has a 16-bit quantization table
        cjpeg(f"greyhard{q}_26x19", Image.fromarray(hard(19, 26)).convert("L"), "-quality", str(q), *["-optimize"] * (q % 50 == 0))
    p = Image.fromarray(hard(21, 27))
    for factors, q in [("1x1", 100), ("2x1", 30), ("2x2", 3), ("2x2", 100), ("1x2", 85), ("4x1", 60)]:
        cjpeg(f"hard{factors}q{q}_27x21", p, "-quality", str(q), "-sample", factors, "-restart", "2B")
        cjpeg(f"hard{factors}q{q}_27x21_again", p, "-quality", str(q), "-sample", factors, "-progressive", "-restart", "3B")
    save("progressive_50x37", Image.fromarray(smooth(37, 50)), subsampling=2, progressive=True)
    for w, h in [(1, 1), (2, 3), (3, 2), (4, 5), (5, 4), (17, 1), (1, 17)]:
        save(f"420_{w}x{h}", Image.fromarray(smooth(h, w)), subsampling=2)
        save(f"422_{w}x{h}", Image.fromarray(smooth(h, w)), subsampling=1)
    save("grey_40x30", Image.fromarray(smooth(30, 40)).convert("L"))
    save("cmyk_40x30", Image.fromarray(smooth(30, 40)).convert("CMYK"))
    for o in range(1, 9):
        e = Image.Exif()
        e[0x0112] = o
        save(f"turned{o}_35x22", Image.fromarray(smooth(22, 35)), subsampling=2, exif=e.tobytes())


if __name__ == "__main__":
    sizes()
    resize()
    jpegs()
