#!/usr/bin/env bash
# The loaders that benchmarks/loader.py runs beside ours, each in an environment of its own:
#
#     bash benchmarks/loader_rivals.sh [FOLDER]
#
# FOLDER (default: .rivals) gets common/, energon/ and mosaic/, about 5 GB. Run again, it goes on.
set -euo pipefail
FOLDER=${1:-.rivals}
PYTHON=${PYTHON:-python3}
# torchcodec 0.13.0 is the last CPU build beside torch 2.13.0.
CODEC=(torch==2.13.0 torchcodec==0.13.0 av==18.1.0 opencv-python-headless psutil)

environment() {
    local name=$1
    shift
    [ -e "$FOLDER/$name/ready" ] && return
    "$PYTHON" -m venv "$FOLDER/$name"
    "$FOLDER/$name/bin/python" -m pip install --quiet "${CODEC[@]}" "$@"
    touch "$FOLDER/$name/ready"
}

mkdir -p "$FOLDER"
environment common torchvision webdataset==1.0.2 litdata==0.2.76 spdl_io==0.8.0 spdl_core==0.8.0
environment energon megatron-energon==7.4.1
environment mosaic torchvision mosaicml-streaming==0.13.0 'numpy<2.2' 'transformers<5'

# torchcodec and SPDL take FFmpeg from the system; PyAV brings one. All decode with that.
for name in common energon mosaic; do
    libraries=$("$FOLDER/$name/bin/python" -c 'import av, pathlib; print(pathlib.Path(av.__file__).parent.parent / "av.libs")')
    mkdir -p "$FOLDER/$name/ffmpeg"
    for file in "$libraries"/lib{av,sw}*.so.*; do
        plain=$(basename "$file" | sed -E 's/-[0-9a-f]+(\.so\.[0-9]+).*/\1/')
        ln -sf "$file" "$FOLDER/$name/ffmpeg/$plain"
    done
    ln -sfn "$libraries" "$FOLDER/$name/ffmpeg/hashed"
done
