// The theme that was chosen in the admin, else the browser's.
"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    const chosen = localStorage.getItem("theme") || "auto";
    document.documentElement.classList.toggle("dark-mode", chosen === "dark" || (chosen === "auto" && dark.matches));
  };
  dark.addEventListener("change", show);
  show();
})();
