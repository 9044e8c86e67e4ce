#!/bin/sh
# Makes a virtual environment in FOLDER in which the optical-flow stage of video2dataset 1.3.0 runs:
#
#     benchmarks/video2dataset.sh FOLDER
#
# Its own list of dependencies does not import any more (numpy below 2 beside a pyarrow that wants
# 2), so the wheel goes in without it, beside versions of its time. About 2 GB.
set -eu
folder=$1
python3 -m venv "$folder"
pip="$folder/bin/python -m pip install --quiet --disable-pip-version-check"
$pip "setuptools<81" wheel
$pip -c "$(dirname "$0")/../constraints.txt" torch
$pip numpy==1.26.4 pyarrow==15.0.2 pandas torchdata==0.7.1 webdataset==1.0.2 decord==0.6.0 \
    scenedetect==0.6.2 opencv-python-headless==4.11.0.86 "transformers<5" "fire<0.6" omegaconf \
    ffmpeg-python webvtt-py langdetect soundfile timeout-decorator einops wandb yt-dlp exifread-nocycle \
    s3fs tqdm
$pip --no-deps video2dataset==1.3.0
# It imports torchaudio and uses nothing of it here; and where no process group exists it expects
# torch's old kind of error.
site=$("$folder/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
mkdir -p "$site/torchaudio"
touch "$site/torchaudio/__init__.py" "$site/torchaudio/functional.py"
cat > "$site/sitecustomize.py" <<'SHIM'
try:
    import torch.distributed as dist
    _rank = dist.get_rank

    def get_rank(group=None):
        if not dist.is_initialized():
            raise RuntimeError("no process group")
        return _rank(group)

    dist.get_rank = get_rank
except ImportError:
    pass
SHIM
