/** One answer as it is written: its reasoning apart from what it says, each piece below the one before. */

/** Seconds for people: "0.4 s", "12 s". */
export const inSeconds = (seconds) => `${Number(seconds.toFixed(1))} s`;

/** Seconds that run: "12.0 s" is as wide as "12.1 s". */
export const runningSeconds = (seconds) => `${seconds.toFixed(1)} s`;

/** An element with classes and text. */
export function element(name, classes = "", text = "") {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  made.textContent = text;
  return made;
}

export class Turn {
  /**
   * @param {HTMLElement} place where it is put.
   * @param {string} title what was asked.
   */
  constructor(place, title) {
    this.root = element("section", "turn writing");
    this.root.append(element("h3", "", title));
    place.append(this.root);
    this.kind = "";
    this.said = ""; // all but the reasoning
    this.finish = ""; // why it ended, as the API names it
  }

  /** @param {"reasoning" | "content"} kind @param {string} text */
  add(kind, text) {
    // Blank lines between pieces are the page's to draw.
    if (kind !== this.kind) text = text.trimStart();
    if (!text) return;
    if (kind !== this.kind) this.begin(kind);
    this.words.appendData(text);
    if (kind === "content") this.said += text;
  }

  begin(kind) {
    this.settle();
    this.kind = kind;
    this.words = document.createTextNode("");
    this.block = element(kind === "reasoning" ? "details" : "p", kind);
    if (kind === "reasoning") {
      this.block.open = true;
      const words = element("p");
      words.append(this.words);
      this.block.append(element("summary", "", "Reasoning"), words);
    } else {
      this.block.append(this.words);
      this.said += this.said && "\n";
    }
    this.root.append(this.block);
  }

  /** Reasoning folds up once the answer goes on, so that what it led to is in view. */
  settle() {
    if (this.words) this.words.data = this.words.data.trimEnd();
    if (this.kind === "reasoning") this.block.open = false;
  }

  /** @param {boolean} stopped whether the user ended it. */
  end(stopped) {
    if (this.words) this.words.data = this.words.data.trimEnd();
    this.root.classList.remove("writing");
    const note = stopped ? "Stopped." : this.finish === "length" ? "Cut off: it reached the longest that is allowed." : "";
    if (note) this.root.append(element("p", "note", note));
  }
}
