// node run.js MODEL THREADS HEIGHTxWIDTH:IMAGE… runs a detector in ONNX Runtime on images of raw float32 [3 H W], and
// prints for each a line of JSON: labels, scores, boxes and milliseconds. NODE_PATH says where onnxruntime-node is.
const ort = require('onnxruntime-node'), fs = require('fs');
(async () => {
  const [model, threads, ...images] = process.argv.slice(2);
  const session = await ort.InferenceSession.create(model, {intraOpNumThreads: +threads, logSeverityLevel: 3});
  for (const image of images) {
    const [, height, width, file] = image.match(/^(\d+)x(\d+):(.*)$/);
    const bytes = fs.readFileSync(file);
    const pixels = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
    const start = performance.now();
    const out = await session.run({image: new ort.Tensor('float32', pixels, [3, +height, +width])});
    console.log(JSON.stringify({
      labels: Array.from(out.labels.data, Number), scores: Array.from(out.scores.data),
      boxes: Array.from(out.boxes.data), ms: performance.now() - start,
    }));
  }
})().catch(e => { console.error(e.message); process.exit(1); });
