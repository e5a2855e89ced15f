// Starts the whole service as a person would (`sealgate dev`) on free ports and
// in a directory of its own, for tests in a browser.
import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** free finds ports that nobody listens on. */
async function free(n) {
  const servers = await Promise.all(Array.from({ length: n }, () => new Promise((resolve, reject) => {
    const s = createServer().listen(0, "127.0.0.1", () => resolve(s)).on("error", reject);
  })));
  const ports = servers.map((s) => s.address().port);
  await Promise.all(servers.map((s) => new Promise((done) => s.close(done))));
  return ports;
}

export class Dev {
  /** start gives a running service; kept directories are found again. */
  static async start({ dir, ports, env = {} } = {}) {
    const dev = new Dev();
    if (!dir) {
      dir = mkdtempSync(join(tmpdir(), "sealgate-"));
      chmodSync(dir, 0o711); // the database's own user passes through
    }
    dev.dir = dir;
    dev.ports = ports ?? await free(4);
    const [server, demo, cards, authority] = dev.ports;
    dev.origin = `http://localhost:${server}`;
    dev.demo = `http://localhost:${demo}`;
    dev.cards = `http://localhost:${cards}`;
    dev.anchors = join(dev.dir, "ca.pem");
    dev.env = env;
    await dev.run();
    return dev;
  }

  async run() {
    const [server, demo, cards, authority] = this.ports;
    this.output = "";
    this.process = spawn(join(root, "bin", "sealgate"), ["dev", "--fast", "--dir", this.dir, "--listen", `localhost:${server}`,
      "--demo", `localhost:${demo}`, "--cards", `localhost:${cards}`, "--card-authority", `localhost:${authority}`],
    { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, DATABASE_URL: "", ...this.env } });
    const seen = (chunk) => { this.output += chunk; };
    this.process.stdout.on("data", seen);
    this.process.stderr.on("data", seen);
    this.ended = new Promise((done) => this.process.on("exit", done));
    for (let i = 0; i < 600; i++) {
      if (this.output.includes("Sealgate is running") && await answers(this.demo) && await answers(`${this.origin}/readyz`)) return;
      if (this.process.exitCode !== null) throw new Error(`sealgate dev ended:\n${this.output}`);
      await new Promise((r) => setTimeout(r, 100));
    }
    throw new Error(`sealgate dev did not start:\n${this.output}`);
  }

  /** insert puts a test card into the reader. */
  async insert(card) {
    const answer = await fetch(`${this.cards}/insert?card=${card}&unlock=true`);
    if (!answer.ok) throw new Error(`insert: ${answer.status} ${await answer.text()}`);
  }

  /** kill ends the process without a chance to clean up. */
  async kill() { this.process.kill("SIGKILL"); await this.ended; }

  async stop() {
    this.process.kill("SIGTERM");
    await this.ended;
    rmSync(this.dir, { recursive: true, force: true });
  }
}

async function answers(url) {
  try {
    return (await fetch(url)).ok;
  } catch {
    return false;
  }
}
