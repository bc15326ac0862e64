"""The whole transformer again in NumPy, float64, one token at a time."""

import numpy as np


def norm(x, scale, eps):
    return x / np.sqrt(np.mean(x * x) + eps) * scale


def rotated(x, position, theta):
    half = len(x) // 2
    turned = (x[:half] + 1j * x[half:]) * np.exp(1j * position * theta ** (-np.arange(half) / half))
    return np.concatenate([turned.real, turned.imag])


def layers_of(config, params):
    stacked = [{name: _at(leaf, i) for name, leaf in params["layers"].items()} for i in range(config.num_layers - 1)]
    return [*stacked, params["last_layer"]]


def _at(leaf, i):
    return {name: value[i] for name, value in leaf.items()} if isinstance(leaf, dict) else leaf[i]


def forward(config, params, tokens):
    """(logits [R, A], value [R]) of one row; `tokens` a dict of arrays [T], with `block`, `mask` and `readout`."""
    tables, table_of = params["embedding"], ("word", "segment", "slot", "place")
    there = np.flatnonzero(tokens["mask"])
    embedded = [sum(tables[name][tokens[name][t]] for name in table_of if name in tables) for t in there]
    block, hidden, before = tokens["block"][there], np.array(embedded), None
    for layer in layers_of(config, params):
        before, hidden = hidden, _layer(config, layer, hidden, block)
    heads = params["heads"]
    rows = [int(np.flatnonzero(there == t)[0]) for t in tokens["readout"]]
    read = [norm(hidden[row], heads["norm"]["scale"], config.norm_eps) for row in rows]
    logits = [h @ heads["policy"] for h in read]
    if config.pointer:
        slots = tokens["slot"][there]
        logits = [
            logit + _pointer(config, heads, h, before, (block == block[row]), slots)
            for logit, h, row in zip(logits, read, rows, strict=True)
        ]
    return np.array(logits), np.array([(h @ heads["value"])[0] for h in read])


def _layer(config, layer, hidden, block):
    normed = [norm(x, layer["attention_norm"]["scale"], config.norm_eps) for x in hidden]
    mixed = np.zeros((len(hidden), config.kv_heads, config.group, config.head_width))
    for kv in range(config.kv_heads):
        kernel = layer["qkv"][:, kv]
        keys = [rotated(x @ kernel[:, -2], i, config.rope_theta) for i, x in enumerate(normed)]
        values = [x @ kernel[:, -1] for x in normed]
        for g in range(config.group):
            for q, x in enumerate(normed):
                query = rotated(x @ kernel[:, g], q, config.rope_theta)
                seen = [k for k in range(len(hidden)) if block[k] <= block[q]]
                weights = np.exp([query @ keys[k] / np.sqrt(config.head_width) for k in seen])
                mixed[q, kv, g] = sum(w * values[k] for w, k in zip(weights, seen, strict=True)) / weights.sum()
    hidden = hidden + np.einsum("tkgh,kghd->td", mixed, layer["out"])
    normed = np.array([norm(x, layer["mlp_norm"]["scale"], config.norm_eps) for x in hidden])
    gate, up = normed @ layer["gate_up"][:, 0], normed @ layer["gate_up"][:, 1]
    return hidden + (gate / (1 + np.exp(-gate)) * up) @ layer["down"]


def _pointer(config, heads, h, tokens, here, slots):
    scores = np.zeros(config.num_logits)
    query = h @ heads["pointer_query"]
    for action in range(config.num_actions):
        own = [
            query @ (norm(x, heads["pointer_norm"]["scale"], config.norm_eps) @ heads["pointer_key"])
            for x in tokens[here & (slots == action + 1)]
        ]
        scores[action] = np.mean(own) / np.sqrt(config.head_width) if own else 0
    return scores
