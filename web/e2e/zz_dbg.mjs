import { launch } from "/work/main/web/e2e/browser.mjs";
import { Dev } from "/work/main/web/e2e/dev.mjs";
const dev = await Dev.start(); const b = await launch();
const p = await (await b.newContext({locale:"zh-TW"})).newPage();
p.on("console",m=>console.log("C",m.text())); p.on("response",r=>console.log(r.status(), r.url().slice(0,200)));
await p.goto(dev.demo+"/tax"); await p.click("form[action='/login'] button"); await p.waitForTimeout(2500);
console.log(p.url()); console.log((await p.innerText("body")).slice(0,500));
console.log(dev.output.slice(-800));
await b.close(); await dev.stop();
