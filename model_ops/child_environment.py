"""Choose the variables that a worker's child processes get: never the portal's secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
# A name that ends in * stands for every name with that prefix.
MACHINE = ("PATH", "HOME", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
DEVICES = (
    *("CUDA_*", "NVIDIA_*", "HIP_*", "ROCR_*", "ROCM_*", "HSA_*", "ZE_*", "ONEAPI_*"),
    *("OMP_*", "MKL_*", "KMP_*", "GOMP_*", "OPENBLAS_*", "TORCH_*", "PYTORCH_*"),
)
NETWORK = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *PROXIES,
    *(name.upper() for name in PROXIES),
)
ENGINE = (*MACHINE, *DEVICES)  # it reads untrusted files and does not use the network
FETCH = (*MACHINE, *NETWORK)  # it gets its token on standard input


def chosen(names: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `environment` that `names` allow."""
    exact = {name for name in names if not name.endswith("*")}
    starts = tuple(name[:-1] for name in names if name.endswith("*"))
    return {
        name: value
        for name, value in environment.items()
        if name in exact or (starts and name.startswith(starts))
    }
