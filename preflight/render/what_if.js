// Adds up the exported memory terms at a place of the sliders, as preflight/memory.py, allocator.py and verdict.py do.
// tests/render/test_sliders.py holds both together, byte by byte. Sets of moments are bits: moments[i] is 1 << i.
(function () {
  "use strict";
  const methods = JSON.parse(document.getElementById("what-if").textContent);
  const ALLOCATED = "allocated", RESERVED = "reserved", DEVICE = "device", HOST = "host";
  let data, always, lossMoments, forward, optimizerStep, prepare, moments, stepMoments;

  function take(method) {
    data = methods[method];
    ({ always, loss: lossMoments, forward, optimizer_step: optimizerStep, prepare } = data.sets);
    moments = data.moments.map((_, index) => 1 << index);
    stepMoments = moments.filter((moment) => moment & data.sets.step);
  }

  const sum = (terms) => terms.reduce((total, term) => total + term.bytes, 0);
  const at = (terms, moment) => sum(terms.filter((term) => term.moments & moment));
  const live = (terms, moment) => at(terms.filter((term) => term.level === ALLOCATED), moment);
  const most = (terms, among) => Math.max(...among.map((moment) => live(terms, moment)));
  const within = (set, other) => (set & ~other) === 0;

  // The bytes of every term that hooks yield there; null where that plan cannot be.
  function termsAt(seqLen, choice) {
    const curves = data.curves[choice];
    if (!curves) return null;
    return curves.map(([number, ...pieces]) => {
      const [, curve] = pieces.find(([last]) => seqLen <= last);
      const [c0, c1, c2] = data.coefficients[curve];
      const bytes = Math.floor(c0 + (c1 + c2 * seqLen) * seqLen + 0.5);
      return { ...data.terms[number], bytes };
    });
  }

  // preflight/formulas/allocator.py, rules 1 to 3, and 6.
  function idleOfDefaultStream(held) {
    const own = held.filter((term) => term.stream === "default");
    const isKept = (term) => term.level === ALLOCATED && within(always, term.moments);
    const kept = sum(own.filter((term) => isKept(term) && !term.from_second_step));
    const states = sum(own.filter((term) => isKept(term) && term.from_second_step));
    const passing = own.filter((term) => !within(always, term.moments));
    const first = passing.filter((term) => !term.from_second_step);
    const ofLoss = passing.filter((term) => within(term.moments, lossMoments));
    const loss = Math.max(...moments.filter((m) => m & lossMoments).map((m) => at(ofLoss, m)));
    const layersFirst = at(first, forward), layers = at(passing, forward);
    let poolFirst = kept + Math.max(layersFirst + loss, most(first, stepMoments));
    let pool = kept + states + Math.max(layers + loss, most(passing, stepMoments));
    if (!data.expandable_segments && states) {
      const gradients = sum(first.filter((term) => term.is_gradient));
      if (!gradients) {
        const firsts = poolFirst - kept, passes = live(passing, optimizerStep);
        pool = Math.max(pool, kept + Math.max(firsts, states + passes) + Math.min(firsts, states));
      }
      const broken = Math.min(loss, Math.max(0, states + gradients - layersFirst));
      const step = kept + states + live(passing, optimizerStep);
      pool = Math.max(pool, Math.max(poolFirst, step) + broken);
    }
    const beside = sum(own.filter((term) => term.level === RESERVED && within(always, term.moments)));
    const prepared = at(own, prepare) - beside;
    poolFirst = Math.max(poolFirst, prepared);
    pool = Math.max(pool, prepared);
    const fullest = (terms) => stepMoments.reduce(
      (best, moment) => (live(terms, moment) > live(terms, best) ? moment : best));
    const heldFirst = held.filter((term) => !term.from_second_step);
    const idleFirst = poolFirst - kept - at(first, fullest(heldFirst));
    const idle = pool - kept - states - at(passing, fullest(held));
    const both = Math.max(0, Math.min(idleFirst, idle));
    const reserved = (bytes, fromSecondStep) => ({
      bytes, level: RESERVED, moments: data.sets.step, from_second_step: fromSecondStep, bucket: "allocator",
    });
    return [reserved(both, false), reserved(Math.max(0, idle - both), true)];
  }

  // preflight/formulas/allocator.py, rule 4.
  function idleOfSideStreams(held) {
    const streams = new Set(held.map((term) => term.stream));
    streams.delete("default");
    return [...streams].flatMap((stream) => {
      const own = held.filter((term) => term.stream === stream);
      const pool = Math.max(...moments.map((moment) => at(own, moment)));
      return moments.filter((moment) => moment & always).map((moment) => ({
        bytes: pool - at(own, moment), level: RESERVED, moments: moment, from_second_step: false, bucket: "allocator",
      }));
    });
  }

  function withAllocator(terms) {
    if (!data.is_cuda) return terms.filter((term) => term.level === ALLOCATED || term.level === HOST);
    const held = terms.filter((term) => term.level === ALLOCATED || term.level === RESERVED);
    const every = [...terms, ...idleOfDefaultStream(held), ...idleOfSideStreams(held)];
    if (data.allocator_factor === null) return every;
    return every.map((term) => (term.level !== RESERVED ? term
      : { ...term, bytes: Math.floor(term.bytes * data.allocator_factor) }));
  }

  // preflight/memory.py: the largest sum of every phase.
  function peaksOf(terms) {
    const device = terms.filter((term) => term.level !== HOST);
    const peaks = [];
    let hostPeak = 0;
    for (const phase of data.phases) {
      const alive = phase.is_first_step ? device.filter((term) => !term.from_second_step) : device;
      let best = null;
      for (const moment of moments.filter((m) => m & phase.moments)) {
        const there = alive.filter((term) => term.moments & moment);
        const allocated = live(there, moment);
        if (there.some((term) => term.level === ALLOCATED) && (!best || allocated > best.allocated)) {
          best = { phase, there, allocated, device: sum(there) };
        }
        hostPeak = Math.max(hostPeak, at(terms.filter((term) => term.level === HOST), moment));
      }
      if (best) peaks.push(best);
    }
    const allowed = sum(terms.filter((term) => term.is_allowance));
    return { peaks, hostPeak, hostCounted: Math.max(0, hostPeak - allowed) };
  }

  // preflight/verdict.py.
  function judge({ peaks, hostPeak, hostCounted }) {
    if (!data.capacity) return "unknown";
    const outside = (peak) => peak.there.filter((term) => term.level === DEVICE)
      .reduce((total, term) => total + term.bytes - term.doubtful, 0);
    const refused = data.may_take_less ? "unknown" : "does_not_fit";
    if (peaks.some((peak) => peak.allocated + outside(peak) > data.capacity)) return refused;
    if (data.host_bytes !== null && hostCounted > data.host_bytes) return refused;
    if (data.missing) return "unknown";
    if (peaks.some((peak) => peak.device > data.capacity - data.margin)) return "tight";
    return data.host_bytes !== null && hostPeak > data.host_bytes ? "tight" : "fits";
  }

  const box = document.querySelector(".sliders"), bars = document.getElementById("what-if-bars");
  const said = document.getElementById("what-if-says"), inputs = [...box.querySelectorAll("input")];
  const chooser = box.querySelector("select");
  const shown = (bytes) => (bytes / data.unit).toFixed(1);

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function barOf(peak, top) {
    const bar = element("div", "bar");
    data.buckets.forEach((bucket, index) => {
      const bytes = sum(peak.there.filter((term) => term.bucket === bucket));
      if (!bytes) return;
      const part = element("i");
      part.style.width = `${(100 * bytes) / top}%`;
      part.style.background = `var(--${bucket})`;
      part.title = `${data.bucket_words[index]}: ${shown(bytes)} ${data.unit_name}`;
      bar.appendChild(part);
    });
    if (data.capacity) {
      const line = element("b");
      line.style.left = `${(100 * data.capacity) / top}%`;
      bar.appendChild(line);
    }
    bar.setAttribute("role", "img");
    bar.setAttribute("aria-label", `${peak.phase.name}: ${shown(peak.device)} ${data.unit_name}`);
    return bar;
  }

  function rowOf(peak, top) {
    const row = element("tr"), wide = element("td", "wide"), number = element("td", "num", shown(peak.device));
    number.dataset.bytes = peak.device;
    wide.appendChild(barOf(peak, top));
    row.append(element("td", "", peak.phase.name), wide, number);
    return row;
  }

  function show() {
    take(chooser ? Number(chooser.value) : 0);
    const chosen = {};
    for (const [name, values] of Object.entries(data.axes)) chosen[name] = values[0];
    for (const input of inputs) {
      const value = data.axes[input.name][Number(input.value)];
      chosen[input.name] = value;
      input.setAttribute("aria-valuetext", String(value));
      input.parentNode.querySelector("output").textContent = value.toLocaleString("en");
    }
    const terms = termsAt(chosen.seq_len, `${chosen.micro_batch_size},${chosen.world_size}`);
    bars.textContent = "";
    delete said.dataset.bytes;
    if (!terms) {
      said.className = "unknown";
      said.textContent = "this plan cannot be";
      return;
    }
    const found = peaksOf(withAllocator(terms)), verdict = judge(found);
    const peak = Math.max(...found.peaks.map((one) => one.device)), top = Math.max(data.capacity * 1.02, peak);
    const of = data.capacity ? ` of ${shown(data.capacity)}` : "";
    said.className = verdict;
    said.dataset.bytes = peak;
    const taken = data.is_open ? ", as it is taken" : "";
    said.textContent = `${data.words[verdict]}${taken}: peak ${shown(peak)}${of} ${data.unit_name} per rank`;
    for (const one of found.peaks) if (one.phase.is_shown) bars.appendChild(rowOf(one, top));
  }

  [...inputs, ...(chooser ? [chooser] : [])].forEach((input) => input.addEventListener("input", show));
  box.style.display = "block";
  show();
})();
