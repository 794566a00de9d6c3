// What a pointer over a drawn point shows; the same values stand in the table under each chart.
(function () {
  "use strict";
  var tip = document.getElementById("tip");
  document.addEventListener("pointerover", function (event) {
    var target = event.target.closest ? event.target.closest("[data-tip]") : null;
    if (!target || !target.dataset.tip) { tip.hidden = true; return; }
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    var box = target.getBoundingClientRect(), own = tip.getBoundingClientRect();
    var left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), document.documentElement.clientWidth - own.width - 8);
    var above = box.top - own.height - 8;
    tip.style.left = left + "px";
    tip.style.top = (above < 8 ? box.bottom + 8 : above) + "px";
  });
  document.addEventListener("scroll", function () { tip.hidden = true; }, { passive: true });
  document.addEventListener("keydown", function (event) { if (event.key === "Escape") { tip.hidden = true; } });
})();
