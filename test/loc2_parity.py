"""Stand-in weights and inputs of the Loc2 matcher, made from a seed, and entries of what the published one returns.

Every tensor comes from numpy's PCG64 seeded by crc32 of its name plus the seed, so it is the same everywhere. The
figures are the published matcher's for seed 0 on 11 x 11 aerial cells: evaluation mode, single precision, CPU.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from cross_view_loc.matching.loc2.convert import expected_layout

AERIAL_CELLS = 11
ROWS, COLUMNS = slice(None, None, 10), slice(None, None, 5)
"""Which aerial and ground cells the entries below are of."""

SIMILARITY = """
6.712618e-1 5.769879e-1 -7.6661915e-2 5.296722e-2 -inf 5.41435e-1 2.6798025e-1 4.0260777e-1 6.244203e-1 5.068026e-1
5.016022e-1 8.071426e-1 1.1117305e+0 1.4898282e-2 1.7531903e-1 -inf 5.7428086e-1 4.6729952e-1 4.5460537e-1
5.364934e-1 2.9381806e-1 2.3753035e-1 6.336761e-1 8.113116e-1 1.002874e-1 2.3243389e-1 -inf 6.2044454e-1
4.9056622e-1 5.602886e-1 5.1941985e-1 2.9869413e-1 4.3895605e-1 1.1576378e+0 1.1617061e+0 5.8772296e-1 4.0997732e-1
-inf 9.7572535e-1 1.1182319e+0 9.3079007e-1 1.0527341e+0 8.203e-1 7.63895e-1 8.746398e-1 8.348868e-1 1.5202977e-1
1.1742739e-1 -inf 5.386933e-1 4.497136e-1 3.3320162e-1 5.323326e-1 1.322443e-1 4.05284e-1 9.0119547e-1 7.8752404e-1
2.5886983e-1 3.8894437e-2 -inf 6.7382103e-1 7.798166e-1 6.04002e-1 7.02836e-1 3.3837155e-1 4.42602e-1 1.0617446e+0
1.0870391e+0 5.094505e-1 3.0061945e-1 -inf 1.088339e+0 1.019867e+0 9.3419087e-1 1.0630382e+0 6.688779e-1 8.581131e-1
1.1132467e+0 9.722946e-1 3.1900486e-1 2.1708964e-1 -inf 8.262459e-1 8.042666e-1 7.940636e-1 6.7329615e-1 6.578397e-1
6.6518694e-1 6.3464755e-1 7.064751e-1 -3.1508137e-2 4.5454565e-2 -inf 6.108752e-1 4.068209e-1 4.9812537e-1
4.9615395e-1 1.3652705e-1 2.793454e-1 1.1647689e+0 1.2101582e+0 5.6271267e-1 4.60939e-1 -inf 9.9029195e-1
9.7793084e-1 9.0244746e-1 8.584631e-1 6.4705086e-1 7.226667e-1 8.734749e-1 9.4324034e-1 2.3384693e-1 1.9554771e-1
-inf 8.315351e-1 8.017606e-1 5.241157e-1 9.536336e-1 2.587235e-1 5.559455e-1 6.6787875e-1 4.1137847e-1 -1.320294e-1
-7.835027e-2 -inf 5.5012953e-1 3.4536168e-1 2.816928e-1 4.1006795e-1 1.597674e-1 1.7238073e-1 1.0227724e+0
1.2220528e+0 3.8240507e-1 5.528721e-1 -inf 9.0270203e-1 1.0459449e+0 8.598906e-1 1.0759394e+0 3.9832756e-1
5.216719e-1
"""
SCORE = """
1.6519915e-4 1.3730502e-4 6.9934984e-5 9.19053e-5 0e+0 1.4521462e-4 8.660312e-5 1.235828e-4 1.7427992e-4
1.7957095e-4 1.642999e-4 1.9172952e-4 3.5384606e-4 7.428124e-5 1.0381746e-4 0e+0 1.371502e-4 1.1410812e-4
1.2127718e-4 1.2928012e-4 1.0372814e-4 8.5688785e-5 1.4488172e-4 2.0742907e-4 9.419828e-5 1.2441578e-4 0e+0
1.6080128e-4 1.2779728e-4 1.6016595e-4 1.335665e-4 1.1197673e-4 1.37049e-4 2.9232167e-4 2.9577294e-4 1.7667055e-4
1.2555323e-4 0e+0 2.3153819e-4 3.172818e-4 2.3775171e-4 2.7457974e-4 2.2486864e-4 1.8571818e-4 2.4721268e-4
2.2914245e-4 1.1008914e-4 1.0416957e-4 0e+0 1.4389312e-4 1.2410695e-4 1.0717256e-4 1.4443492e-4 8.458824e-5
1.3501669e-4 2.3046027e-4 1.8425782e-4 1.2050468e-4 7.870228e-5 0e+0 1.6667471e-4 2.123143e-4 1.6283849e-4
1.7956794e-4 1.1292992e-4 1.2860587e-4 2.4429677e-4 2.5790042e-4 1.5294172e-4 1.0213846e-4 0e+0 2.9362022e-4
2.6384866e-4 2.4234051e-4 2.8377032e-4 1.6817202e-4 2.2700717e-4 3.137908e-4 2.3756066e-4 1.2108643e-4 1.0014391e-4
0e+0 2.0142956e-4 1.9864384e-4 2.121785e-4 1.5080984e-4 1.9061388e-4 1.7883576e-4 1.6124349e-4 1.8682476e-4
8.038804e-5 9.508063e-5 0e+0 1.7522754e-4 1.2006214e-4 1.5710879e-4 1.4161646e-4 8.99282e-5 1.1062789e-4
3.1231978e-4 3.4323212e-4 1.7700478e-4 1.4643236e-4 0e+0 2.5108422e-4 2.5242104e-4 2.3661922e-4 1.9609711e-4
1.6749083e-4 1.8013097e-4 2.1292524e-4 2.4569064e-4 1.1193818e-4 1.0513898e-4 0e+0 2.2313485e-4 2.16645e-4
1.3554317e-4 2.8958605e-4 9.4045216e-5 1.575501e-4 1.8559005e-4 1.1151293e-4 7.080896e-5 7.9940124e-5 0e+0
1.6712741e-4 1.1434878e-4 1.0975335e-4 1.2839514e-4 1.0145898e-4 9.619766e-5 2.3549491e-4 3.5207727e-4 1.2362046e-4
1.7628197e-4 0e+0 2.110855e-4 2.8968134e-4 2.1767283e-4 3.0345016e-4 1.0201673e-4 1.2070495e-4
"""
SIMILARITY_OF_GROUND_CELLS = """
8.4049271e-1 9.8864595e-1 7.0546927e-1 7.0964133e-1 2.9637637e-1 8.3304547e-1 6.6209171e-1 4.2900206e-1
-1.7312444e-1 -1.2495638e-1 1.7608736e-1 2.5758794e-1 2.2331014e-1 2.8373887e-1 1.6284195e-1 1.6147937e-1 0e+0
-1.0983723e-1 1.906322e-1 3.1433147e-1 0e+0 5.2630908e-1 5.711475e-1 0e+0 2.0991798e-1 7.0639117e-1 3.683056e-1
1.5835005e-1 0e+0 5.4175916e-1 6.6432066e-1 4.4984259e-1 6.1868678e-1 5.6416281e-1 5.825015e-1 5.7588747e-1 0e+0
6.5564029e-1 7.20471e-1 7.2369119e-1 6.8250553e-1 0e+0 4.3138263e-1 8.9814298e-1 6.6103175e-1 3.9784763e-1
5.6728253e-1 1.5494533e-1 -2.511331e-2 5.8552224e-1 4.8675568e-1 2.5128762e-1 2.5546375e-1 4.1291547e-1
"""
SCORE_OF_GROUND_CELLS = """
2.6057282e-2 3.0734748e-2 2.3025337e-2 2.2900993e-2 1.4911579e-2 2.5980234e-2 2.1990303e-2 1.7091402e-2 9.0657055e-3
9.6526536e-3 1.2947733e-2 1.4124772e-2 1.3639981e-2 1.460708e-2 1.2864563e-2 1.2720999e-2 0e+0 9.6749137e-3
1.3377748e-2 1.5018569e-2 0e+0 1.8747766e-2 1.9694442e-2 0e+0 1.3399345e-2 2.2566527e-2 1.6072423e-2 1.2852216e-2
0e+0 1.9103991e-2 2.2027005e-2 1.7556539e-2 2.0889179e-2 1.9519337e-2 2.0273908e-2 1.9928166e-2 0e+0 2.1728974e-2
2.3004489e-2 2.354716e-2 2.2276601e-2 0e+0 1.743999e-2 2.7909123e-2 2.1996463e-2 1.6826577e-2 1.9684923e-2
1.2817139e-2 1.0679286e-2 2.003982e-2 1.8229886e-2 1.4394613e-2 1.4288512e-2 1.6822841e-2
"""


def figures(text: str) -> Tensor:
    """The figures as a flat tensor."""
    return torch.tensor([float(word) for word in text.split()], dtype=torch.float64)


def normal(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Standard normal numbers that depend on the name and the seed alone."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()) + seed))
    return generator.standard_normal(shape).astype(np.float32)


def state_dict(seed: int = 0) -> dict[str, Tensor]:
    """A checkpoint of the released layout whose activations stay of order one."""
    tensors: dict[str, Tensor] = {}
    for name, like in expected_layout().items():
        shape = tuple(like.shape)
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(1)
            continue
        values = normal(name, shape, seed)
        if name.endswith("running_var"):
            values = np.abs(1 + 0.1 * values)
        elif ".bn" in name or ".norm" in name:
            values = 0.1 * values + (1 if name.endswith("weight") else 0)
        elif values.ndim >= 2:
            values = values / np.sqrt(np.prod(shape[1:]))
        tensors[name] = torch.from_numpy(np.asarray(values, np.float32))
    return tensors


def inputs(
    seed: int = 0, ground: tuple[int, int] = (6, 9), aerial: tuple[int, int] = (12, 12)
) -> tuple[Tensor, Tensor, Tensor]:
    """Ground tokens (1, 1024, h, w), aerial tokens (1, 1024, H, W), mask (1, h w) of usable ground cells."""
    mask = normal("mask", (1, ground[0] * ground[1]), seed) > -1.0
    return (
        torch.from_numpy(normal("ground", (1, 1024, *ground), seed)),
        torch.from_numpy(normal("aerial", (1, 1024, *aerial), seed)),
        torch.from_numpy(mask),
    )
