// Draws a frame's text as a QR picture: version 4, level M, quiet zone of four
// modules, always black on white whatever the theme.

import { encode } from "uqr";

const svgNS = "http://www.w3.org/2000/svg";
const quiet = 4;

/** Draws the modules of a text as one SVG path, runs of dark modules joined. */
export function path(text: string): { d: string; size: number } {
  const code = encode(text, { ecc: "M", border: 0 });
  let d = "";
  code.data.forEach((row, y) => {
    for (let x = 0; x < row.length; x++) {
      if (!row[x]) continue;
      let run = 1;
      while (row[x + run]) run++;
      d += `M${x + quiet} ${y + quiet}h${run}v1h-${run}z`;
      x += run;
    }
  });
  return { d, size: code.size + 2 * quiet };
}

/** Picture is one place where frames are shown; a new frame changes one attribute. */
export class Picture {
  private readonly svg: SVGSVGElement;
  private readonly dark: SVGPathElement;

  constructor(place: Element) {
    this.svg = document.createElementNS(svgNS, "svg");
    this.svg.setAttribute("shape-rendering", "crispEdges");
    this.svg.setAttribute("aria-hidden", "true");
    const light = document.createElementNS(svgNS, "rect");
    light.setAttribute("width", "100%");
    light.setAttribute("height", "100%");
    light.setAttribute("fill", "#fff");
    this.dark = document.createElementNS(svgNS, "path");
    this.dark.setAttribute("fill", "#000");
    this.svg.append(light, this.dark);
    place.replaceChildren(this.svg);
  }

  show(text: string): void {
    const { d, size } = path(text);
    this.svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
    this.dark.setAttribute("d", d);
  }
}
