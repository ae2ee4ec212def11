# preflight alone, to judge a folder that is mounted: docker run --rm -v "$PWD:/work" IMAGE check --device h100 -- ...
# It has no torch and no launcher: what the ranks would have installed is read from the folder's own pins.
FROM python:3.12-slim
COPY . /source
RUN pip install --no-cache-dir /source && rm -rf /source
WORKDIR /work
ENTRYPOINT ["preflight"]
CMD ["--help"]
