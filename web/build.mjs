// Builds web/dist, which the server embeds.
//
//   node build.mjs            once
//   node build.mjs --watch    again whenever a source changes
//
// What becomes a file of its own:
//   src/entries/*.ts   src/app/entries/*.ts    scripts of pages, workers (name.worker.ts), the service worker (sw.ts)
//   src/css/*.css      src/app/entries/*.css   style sheets; a leading underscore marks a part that others import
//   static/**                                  icons and other fixed files
//   pdf/*.go                                   pdf.wasm, built by Go
// Every file gets a hash of its content in its name and a gzip twin. dist/manifest.json maps
// the plain name ("qr.js") to the built one ("assets/qr-1A2B3C4D.js"); templates ask for the plain name.
import { build } from "esbuild";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, watch, writeFileSync } from "node:fs";
import { basename, dirname, extname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync, constants } from "node:zlib";

const root = dirname(fileURLToPath(import.meta.url));
const dist = join(root, "dist");

function list(dir, want) {
  const at = join(root, dir);
  if (!existsSync(at)) return [];
  return readdirSync(at)
    .filter((n) => want.includes(extname(n)) && !n.startsWith("_") && !n.endsWith(".d.ts"))
    .map((n) => join(at, n));
}

function walk(dir) {
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { withFileTypes: true }).flatMap((e) =>
    e.name.startsWith(".") ? [] : e.isDirectory() ? walk(join(dir, e.name)) : [join(dir, e.name)],
  );
}

function emit(manifest, out, name, content) {
  const hash = createHash("sha256").update(content).digest("hex").slice(0, 10);
  const ext = extname(name);
  const file = `assets/${name.slice(0, -ext.length).replaceAll("/", "-")}-${hash}${ext}`;
  if (manifest[name]) throw new Error(`two sources are called ${name}`);
  manifest[name] = file;
  writeFileSync(join(out, file), content);
  if (![".png", ".woff2", ".ico"].includes(ext)) {
    const zipped = gzipSync(content, { level: constants.Z_BEST_COMPRESSION });
    if (zipped.length < content.length) writeFileSync(join(out, file + ".gz"), zipped);
  }
}

// What reads PDF signatures in the browser is our own Go package; Go's glue for it comes with Go.
const goGlue = join(execFileSync("go", ["env", "GOROOT"], { encoding: "utf8" }).trim(), "lib", "wasm", "wasm_exec.js");

function goWASM() {
  const out = join(dist, ".pdf.wasm");
  execFileSync("go", ["build", "-trimpath", "-ldflags=-s -w", "-o", out, "./pdf"],
    { cwd: root, env: { ...process.env, GOOS: "js", GOARCH: "wasm" }, stdio: ["ignore", "inherit", "inherit"] });
  const content = readFileSync(out);
  rmSync(out);
  return content;
}

async function once() {
  const entryPoints = [
    ...list("src/entries", [".ts"]),
    ...list("src/app/entries", [".ts", ".css"]),
    ...list("src/css", [".css"]),
  ];
  const result = await build({
    entryPoints,
    outdir: join(root, "out"),
    entryNames: "[name]",
    bundle: true,
    minify: true,
    format: "iife",
    target: ["es2020", "chrome109", "firefox115", "safari16"],
    charset: "utf8",
    legalComments: "none",
    write: false,
    logLevel: "warning",
    absWorkingDir: root,
    alias: { "go-wasm-glue": goGlue },
  });
  // Build beside the old files and swap, so that a running server never sees half a build.
  const next = join(root, "dist", ".next");
  rmSync(next, { recursive: true, force: true });
  mkdirSync(join(next, "assets"), { recursive: true });
  const manifest = {};
  for (const f of result.outputFiles) emit(manifest, next, basename(f.path), f.contents);
  for (const f of walk(join(root, "static"))) emit(manifest, next, relative(join(root, "static"), f), readFileSync(f));
  const wasm = join(root, "node_modules/zxing-wasm/dist/reader/zxing_reader.wasm");
  emit(manifest, next, "zxing_reader.wasm", readFileSync(wasm));
  emit(manifest, next, "pdf.wasm", goWASM());
  const sorted = Object.fromEntries(Object.entries(manifest).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(join(next, "manifest.json"), JSON.stringify(sorted, null, 1) + "\n");

  rmSync(join(dist, "assets"), { recursive: true, force: true });
  renameSync(join(next, "assets"), join(dist, "assets"));
  renameSync(join(next, "manifest.json"), join(dist, "manifest.json"));
  rmSync(next, { recursive: true, force: true });
  for (const [name, file] of Object.entries(sorted)) {
    const gz = join(dist, file + ".gz");
    const size = (p) => (existsSync(p) ? statSync(p).size : 0);
    console.log(`${name.padEnd(24)} ${String(size(join(dist, file))).padStart(8)} ${String(size(gz)).padStart(8)} gz`);
  }
}

await once();
if (process.argv.includes("--watch")) {
  let timer;
  for (const dir of ["src", "static"]) {
    watch(join(root, dir), { recursive: true }, () => {
      clearTimeout(timer);
      timer = setTimeout(() => once().catch((e) => console.error(e.message)), 100);
    });
  }
}
