// Rotatable point clouds on plain canvases. All views turn together, so that shapes can be compared from one side.
"use strict";
(() => {
  const clouds = JSON.parse(document.getElementById("clouds").textContent);
  const views = [...document.querySelectorAll("canvas[data-cloud]")].map((canvas) => ({ canvas, cloud: clouds[+canvas.dataset.cloud] }));
  const angle = { turn: 0.6, tilt: 0.35 };

  function draw({ canvas, cloud }) {
    const side = Math.round(canvas.clientWidth * (window.devicePixelRatio || 1));
    if (!side) return;
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d"), { points, colour, palette } = cloud;
    const [ct, st, cp, sp] = [Math.cos(angle.turn), Math.sin(angle.turn), Math.cos(angle.tilt), Math.sin(angle.tilt)];
    const seen = colour.map((shade, i) => {
      const [x, y, z] = [points[3 * i], points[3 * i + 1], points[3 * i + 2]];
      const depth = z * ct - x * st;
      return { x: x * ct + z * st, y: y * cp - depth * sp, depth: depth * cp + y * sp, shade };
    });
    seen.sort((a, b) => a.depth - b.depth);
    context.clearRect(0, 0, side, side);
    const scale = side / 2040;
    for (const point of seen) {
      const near = (point.depth + 1000) / 2000;  // near points larger and opaque
      context.globalAlpha = 0.45 + 0.55 * Math.max(0, Math.min(1, near));
      context.fillStyle = palette[point.shade];
      context.beginPath();
      context.arc(side / 2 + point.x * scale, side / 2 - point.y * scale, side * (0.008 + 0.006 * near), 0, 7);
      context.fill();
    }
  }

  let waiting = false;
  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; views.forEach(draw); });
  }

  for (const { canvas } of views) {
    let last = null;
    canvas.addEventListener("pointerdown", (event) => { last = event; canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointerup", () => { last = null; });
    canvas.addEventListener("pointercancel", () => { last = null; });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      angle.turn += (event.clientX - last.clientX) / 120;
      if (event.pointerType === "mouse") angle.tilt = Math.max(-1.5, Math.min(1.5, angle.tilt + (event.clientY - last.clientY) / 120));
      last = event;
      redraw();
    });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[event.key];
      if (!step) return;
      event.preventDefault();
      angle.turn += step[0];
      angle.tilt = Math.max(-1.5, Math.min(1.5, angle.tilt + step[1]));
      redraw();
    });
  }
  new ResizeObserver(redraw).observe(document.body);
  views.forEach(draw);
})();
