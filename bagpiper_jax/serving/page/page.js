/** Joins the parts of the page. */

import { listen } from "./listen.js";
import { make } from "./make.js";
import { Model } from "./model.js";
import { Settings } from "./settings.js";

const part = (id) => document.getElementById(id);
const settings = new Settings(part("settings"), () => model.look());
const model = new Model(part("card"), part("standing"), settings, (facts) => {
  settings.suggest(facts);
  fitListen(facts);
  maker.fit(facts);
});
const maker = make(part("make"), settings, model);
const fitListen = listen(part("listen"), settings, model, maker.take);
model.watch();

// A clip that misses its place would be opened instead of the page.
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
